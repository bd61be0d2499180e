"""gunicorn's hook: says `listening` as every other mode of the server does."""


def when_ready(server):
    from server import say

    say("listening")
