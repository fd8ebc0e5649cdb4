"""Memory, disks and folders that are asked for more than they have."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from lightning.pytorch import Trainer

from qmix_lightning.cli.words import refuse, relative

_NO_ROOM = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
"""What a disk says that is full, or a user who has had his share of it."""

_NO_FOLDER = (errno.EACCES, errno.EROFS, errno.ENOENT, errno.ENOTDIR)
"""What a folder says that is not there, or not to be written to."""


@contextmanager
def room_asked_for(trainer: Trainer) -> Iterator[None]:
    """Say in a line what there was no room for, while a trainer is at work."""
    try:
        yield
    except MemoryError as error:
        refuse(str(error))
    except OSError as error:
        # Ours say what was expected, and the cure; of others a defect might be the cause.
        if str(error.strerror).startswith("Expected ") or error.errno in _NO_FOLDER:
            refuse(str(error))
        if error.errno not in _NO_ROOM:
            raise
        where = relative(error.filename or trainer.log_dir or "logs")
        refuse(f"{error.strerror}: {where}. Make room, and go on from the last checkpoint.")
