"""Read a tree: every file with its mode, size and digest, every link with its target; refuse what cannot be shipped.

What is not read, and so not shipped: empty folders, times, owners, and of a mode all but the executable bit.

Nothing is written. Digests are computed on several threads, because SHA-256 runs at about 1.8 GB/s a core and a CUDA
tree has 5 GB.
"""

from __future__ import annotations

import errno
import os
import posixpath
import re
import stat
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from lading.digest import sha256_stream
from lading.errors import FileChanged, LinkEscapes, TreeInvalid
from lading.host.facts import usable_cpus
from lading.manifest.tree import TreeEntry
from lading.pack.filenames import check_carried
from lading.progress import Progress, Task

PAYLOAD = "_internal"  # PyInstaller's default contents directory since 6.0
_UNPLAIN = re.compile(r"[\\\x00-\x1f\x7f\ud800-\udfff]")


def _opening() -> int:
    flags = os.O_RDONLY
    for name in ("O_BINARY", "O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK"):  # each where the system has it
        flags |= getattr(os, name, 0)
    return flags


_OPENING = _opening()


def open_regular(path: Path) -> BinaryIO:
    """Open a file that was a regular one a moment ago.

    A pipe in its place would block for ever, and a link would lead away: neither is opened.

    Args:
        path: The file.

    Returns:
        An unbuffered stream.

    Raises:
        OSError: It cannot be opened, or is something else now (``EINVAL``, ``ELOOP``).
    """
    descriptor = os.open(path, _OPENING)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return os.fdopen(descriptor, "rb", buffering=0)


def unreadable(path: str, error: OSError) -> TreeInvalid:
    """The error for what lies in a tree and the system does not let us read."""
    return TreeInvalid(
        f"{path} cannot be read: {error.strerror}",
        usually="The tree was built by another user, or the disk is failing.",
        todo="Make the tree readable for this user, or build it again.",
    )


def _walk(root: Path, prefix: str = "") -> Iterator[tuple[str, os.DirEntry[str]]]:
    try:
        with os.scandir(root / prefix) as found:
            children = sorted(found, key=lambda child: child.name)
    except OSError as error:
        raise unreadable(prefix or str(root), error) from error
    for child in children:
        path = prefix + child.name
        if child.is_dir(follow_symlinks=False):
            yield from _walk(root, path + "/")
        else:
            yield path, child


def check_link(path: str, target: str) -> None:
    """Refuse a link that leaves the tree, or could. Pure.

    A target is written plainly: names, with ``..`` only before them (``.`` and doubled slashes, which mean nothing, are
    gone when a link has been read). After a name ``..`` leads elsewhere when that name
    is a link; clients refuse it.

    Args:
        path: The link, relative to the tree.
        target: What is written in it.

    Raises:
        LinkEscapes: With the link and its target.
    """
    parts = target.split("/")
    ups = next((number for number, part in enumerate(parts) if part != ".."), len(parts))
    if posixpath.isabs(target) or re.match(r"[A-Za-z]:", target) or ups > path.count("/"):
        raise LinkEscapes(
            f"The symbolic link {path} leads to {target}, outside the tree.",
            usually="A package was installed as links into another folder (an editable install, a cache).",
            todo="Install the package as real files and freeze again.",
        )
    if ups == len(parts) or {"", ".", ".."} & set(parts[ups:]) or _UNPLAIN.search(target):
        raise LinkEscapes(
            f"The symbolic link {path} leads to {target!r}, which is not written plainly.",
            usually="A program made it that does not shorten paths, or it leads to a folder above itself.",
            todo="Write it as names with '/' between them and '..' only before them, or exclude it.",
        )


def _check_arrival(root: Path, links: Sequence[TreeEntry], paths: set[str]) -> None:
    """Every link must lead, over other links if need be, to something that is shipped."""
    if not links:
        return
    top = root.resolve()
    shipped = paths | {parent for path in paths for parent in _parents(path)}
    for link in links:
        if _place(root / link.path, top) not in shipped:
            raise LinkEscapes(
                f"The symbolic link {link.path} leads to {link.target}, which is not in the tree.",
                usually="The file that it leads to was excluded or deleted after the link was made.",
                todo="Exclude the link too, or keep the file.",
            )


def _place(link: Path, top: Path) -> str | None:
    """Where a link arrives, relative to the tree; none when it is nowhere or outside."""
    try:
        return link.resolve(strict=True).relative_to(top).as_posix()
    except (OSError, RuntimeError, ValueError):  # RuntimeError: a loop, before Python 3.13
        return None


def _parents(path: str) -> Iterator[str]:
    while path := posixpath.dirname(path):
        yield path


def _entry(path: str, child: os.DirEntry[str]) -> TreeEntry | os.stat_result:
    try:
        if child.is_symlink():
            target = Path(child.path).readlink().as_posix()
            check_link(path, target)
            return TreeEntry(path=path, type="link", target=target)
        status = child.stat(follow_symlinks=False)
    except OSError as error:
        raise unreadable(path, error) from error
    if not stat.S_ISREG(status.st_mode):
        raise TreeInvalid(
            f"{path} is neither a file, a folder nor a link.",
            usually="A running program left a socket or a pipe in the tree.",
            todo="Remove it, or build the tree again.",
        )
    return status


def _file_entry(root: Path, path: str, status: os.stat_result, task: Task) -> TreeEntry:
    try:
        with open_regular(root / path) as stream:
            digest, size = sha256_stream(stream, task.advance)
    except OSError as error:
        raise unreadable(path, error) from error
    if size != status.st_size:
        raise FileChanged(
            f"{path} changed while the tree was being read: it had {status.st_size} bytes, then {size}.",
            usually="The frozen program is running, or another build writes into the same tree.",
            todo="Stop it, then run the same command again.",
        )
    mode = 0o755 if status.st_mode & stat.S_IXUSR else 0o644
    return TreeEntry(path=path, mode=mode, size=size, sha256=digest)


def scan_tree(root: Path, progress: Progress, *, threads: int | None = None) -> tuple[TreeEntry, ...]:
    """Read a whole tree.

    Args:
        root: Its folder.
        progress: Where to report, by bytes.
        threads: Threads for digests; by default one a processor.

    Returns:
        The entries in path order (as UTF-8 bytes).

    Raises:
        TreeInvalid: It is no folder, has no file, or something in it cannot be read or shipped.
        NameForbidden: A name that the formats cannot carry.
        LinkEscapes: A link leaves the tree or leads nowhere.
        FileChanged: A file grew or shrank meanwhile.
    """
    if not root.is_dir():
        raise TreeInvalid(
            f"{root} is not a folder.",
            usually="The path is wrong, or the freeze step has not run.",
            todo="Give the folder that PyInstaller made (onedir).",
        )
    found = list(_walk(root))
    check_carried(path for path, _ in found)
    links: list[TreeEntry] = []
    files: list[tuple[str, os.stat_result]] = []
    for path, child in found:
        entry = _entry(path, child)
        if isinstance(entry, TreeEntry):
            links.append(entry)
        else:
            files.append((path, entry))
    if not files:
        raise TreeInvalid(
            f"{root} has no files.",
            usually="The freeze step failed, or the wrong folder was given.",
            todo="Freeze again and look at its log.",
        )
    _check_arrival(root, links, {path for path, _ in found})
    total = sum(status.st_size for _, status in files)
    largest_first = sorted(
        files, key=lambda file: -file[1].st_size
    )  # so that no thread is left with a giant at the end
    with progress.task("reading the tree", total) as task, ThreadPoolExecutor(threads or usable_cpus()) as pool:
        entries = list(pool.map(lambda file: _file_entry(root, file[0], file[1], task), largest_first))
    return tuple(sorted([*entries, *links], key=lambda entry: entry.path.encode()))


def find_entry(root: Path) -> str:
    """Find the executable of a onedir tree whose build information is lost.

    Args:
        root: The tree.

    Returns:
        The executable's name.

    Raises:
        TreeInvalid: There is no payload folder, or not exactly one executable beside it.
    """
    try:
        payload = (root / PAYLOAD).is_dir()
        programs = sorted(path.name for path in (root.iterdir() if root.is_dir() else ()) if _is_program(path))
    except OSError as error:
        raise unreadable(str(root), error) from error
    if not payload or len(programs) != 1:
        has = f"a folder {PAYLOAD}" if payload else f"no folder {PAYLOAD}"
        raise TreeInvalid(
            f"{root} is not a onedir tree: it has {has} and the executables {programs or 'none'}; "
            f"expected are {PAYLOAD} and one executable.",
            usually="It is a onefile build, a virtual environment, or a folder above or below the onedir.",
            todo="Give the folder dist/<name> of a PyInstaller onedir build, or name the executable with --entry.",
        )
    return programs[0]


def _is_program(path: Path) -> bool:
    return path.is_file() and (os.access(path, os.X_OK) if os.name == "posix" else path.suffix.lower() == ".exe")
