"""What the C library does with memory that is freed: on a CPU, the next step should find it again.

MLX's arrays on a CPU come from `malloc`. Of a large block, or of much that is free at the heap's end, glibc gives the
pages back to the kernel at once, which fills them with zeros when the next step asks for them again: on a small
network, 384 wide, with four photos at 256 px, 80,000 pages a step, a sixth of its time. Kept, the process holds on to
the most that its steps ever needed until it ends; that most is the same.
"""

from __future__ import annotations

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
LARGEST = 2**31 - 1  # that mallopt takes
OWN_PAGES_FROM = 2**30  # bytes of a block that is not worth keeping


def keep_what_is_freed() -> bool:
    """Have this process's heap keep its pages; False where the C library is not glibc, and nothing is changed."""
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    return bool(library.mallopt(M_MMAP_THRESHOLD, OWN_PAGES_FROM) and library.mallopt(M_TRIM_THRESHOLD, LARGEST))


def give_back_what_is_freed() -> None:
    """Give free pages of this process's heap back to the system, where the C library is glibc.

    Of many blocks of some megabytes, such as Pillow's of 16 MB, glibc keeps those below the last one that is in use.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
