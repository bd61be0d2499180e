"""gunicorn's hook: reports `listening` like every other mode of the server."""


def when_ready(server):
    from server import say

    say("listening")
