"""Which file systems are shared between machines, where SQLite's WAL must not be used."""

from __future__ import annotations

import os
import re
from pathlib import Path

# WAL needs memory that all its readers share, which two machines do not have.
NETWORK = frozenset({
    "9p", "acfs", "afs", "beegfs", "beegfs_nodev", "ceph", "cephfs", "cifs", "coda", "davfs", "davfs2",
    "gcsfuse", "glusterfs", "gpfs", "lustre", "mfs", "moosefs", "ncpfs", "nfs", "nfs3", "nfs4", "ocfs2",
    "orangefs", "panfs", "pvfs2", "rclone", "s3fs", "smb2", "smb3", "smbfs", "sshfs", "virtiofs", "weka",
    "wekafs",
})  # fmt: skip


def file_system(path: str | os.PathLike[str], mountinfo: str) -> str:
    """Type of the file system that holds a path.

    Parameters
    ----------
    path : path
        Absolute, without links.
    mountinfo : str
        Text of ``/proc/self/mountinfo`` (proc(5)): the fifth field of a line is the mount point, with
        octal escapes; the first one after ``-`` is the type.

    Returns
    -------
    str
        Such as ``ext4`` or ``nfs4``; without the ``fuse.`` of file systems in user space; empty if unknown.
    """
    place, best, found = str(path), -1, ""
    for line in mountinfo.splitlines():
        fields, _, rest = line.partition(" - ")
        words, kind = fields.split(), rest.split()
        if len(words) < 5 or not kind:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), words[4])
        inside = place == point or place.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= best:  # a later mount on the same point hides the earlier one
            best, found = len(point), kind[0]
    return found.removeprefix("fuse.")


def network(path: str | os.PathLike[str]) -> str:
    """Type of the network file system that a path lies on; empty if it lies on a disk of this machine."""
    try:
        mountinfo = Path("/proc/self/mountinfo").read_text(errors="replace")
    except OSError:  # not Linux: unknown
        return ""
    found = file_system(Path(path).resolve(), mountinfo)
    return found if found in NETWORK else ""
