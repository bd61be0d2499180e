"""Faults of a server below Python: in a native module on a thread of its own, and at the limits of setrlimit(2)."""

import ctypes
import resource
import signal
import threading
import time

PR_SET_NAME = 15


def crash_on_a_thread(name):
    """Reads an address that is not mapped, in zlib, on a thread with this name."""

    def read():
        ctypes.CDLL(None).prctl(PR_SET_NAME, name.encode(), 0, 0, 0)
        checksum = ctypes.CDLL("libz.so.1").crc32
        checksum.argtypes = [ctypes.c_ulong, ctypes.c_void_p, ctypes.c_uint]
        checksum(0, 0x10, 64)

    thread = threading.Thread(target=read)
    thread.start()
    thread.join()


def exceed_cpu_time():
    """Works until the kernel ends it; the hard limit sends SIGKILL."""
    seconds = int(time.process_time()) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    while True:
        pass


def exceed_file_size():
    """Python ignores SIGXFSZ; this server does not."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    with open("/tmp/too-long", "wb") as file:
        file.write(bytes(1 << 20))


def of_path(path, arg):
    """Returns only for another path."""
    if path == "/crash-on-a-thread":
        crash_on_a_thread(arg("name", "embed"))
    if path == "/exceed-cpu-time":
        exceed_cpu_time()
    if path == "/exceed-file-size":
        exceed_file_size()
