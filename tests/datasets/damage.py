"""What befalls files: cut short, renamed, swapped, copied, lost, linked, packed, moved."""

import os
import shutil
from pathlib import Path

TEXTS = (".csv", ".txt", ".xml")


def spoil(root, chance):
    """One to three damages.

    Returns:
        What was done, in words; and all paths, as they were and as they are, that hold or held something else than before.

    """
    done, touched = [], set()
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        before = contents(root)
        words = chance.choices(DAMAGES, WEIGHTS)[0](root, chance)
        after = contents(root)
        done.append(words)
        touched |= {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
        if not after:
            break
    return done, touched


def contents(root):
    """Bytes by path of every file, and "link" or "folder" of the rest, seen through no link."""
    found = {}
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            path = Path(folder) / name
            kind = str(path.readlink()) if path.is_symlink() else "folder" if path.is_dir() else path.read_bytes()
            found[path.relative_to(root).as_posix()] = kind
    return found


def some_file(root, chance):
    """A file; tables and other label files more often than there are of them."""
    files = [root / path for path, kind in sorted(contents(root).items()) if isinstance(kind, bytes)]
    labels = [file for file in files if file.suffix in (*TEXTS, ".npy")]
    if not files:
        files = [root / f"new{len(list(root.iterdir()))}.png"]
        files[0].write_bytes(b"")
    return chance.choice(labels if labels and chance.random() < 0.25 else files)


def some_folder(root, chance):
    folders = [root / path for path, kind in sorted(contents(root).items()) if kind == "folder"]
    return chance.choice(folders or [root])


def other_name(file, root, chance):
    """A free name beside a file, as people and programs give them."""
    stranger = some_file(root, chance)
    stem, suffix = file.stem, file.suffix
    names = (
        f"{stem}{suffix.upper()}", f"{stem}.png", f"{stem}.jpeg", f"{stem}.txt", f"{stem.lower()}{suffix}", f"{stem.upper()}{suffix}",
        f"Copy of {stem}{suffix}", f"{stem} (1){suffix}", f"{stem}_aligned{suffix}", f".{stem}{suffix}", f"{stranger.stem}{suffix}",
        f"{stranger.name}", f"{stem[1:]}{suffix}", f"{stem[:-1]}{chance.randrange(10)}{suffix}", f"{stem}\u00e9{suffix}",
    )  # fmt: skip
    wanted = file.with_name(chance.choice(names))
    return (
        wanted
        if not os.path.lexists(wanted) and wanted.name != suffix
        else file.with_name(f"{stem}_{chance.randrange(99)}{suffix}")
    )


def truncate(root, chance):
    file = some_file(root, chance)
    size = file.stat().st_size
    os.truncate(file, chance.choice((0, 1, size // 2, max(size - 1, 0), chance.randrange(size + 1))))
    return f"cut {file.relative_to(root)} to {file.stat().st_size} bytes of {size}"


def garble(root, chance):
    file = some_file(root, chance)
    data = bytearray(file.read_bytes())
    for _ in range(chance.randrange(1, 20) if data else 0):
        data[chance.randrange(len(data))] = chance.randrange(256)
    file.write_bytes(data)
    return f"garbled {file.relative_to(root)}"


def rename(root, chance):
    file = some_file(root, chance)
    new = other_name(file, root, chance)
    file.rename(new)
    return f"renamed {file.relative_to(root)} to {new.name}"


def swap(root, chance):
    one, two = some_file(root, chance), some_file(root, chance)
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    return f"swapped {one.relative_to(root)} and {two.relative_to(root)}"


def duplicate(root, chance):
    file = some_file(root, chance)
    new = some_folder(root, chance) / file.name
    if chance.random() < 0.5 or os.path.lexists(new):
        new = other_name(file, root, chance)
    if not os.path.lexists(new):
        shutil.copyfile(file, new)
    return f"copied {file.relative_to(root)} to {new.relative_to(root)}"


def delete(root, chance):
    file = some_file(root, chance)
    file.unlink()
    return f"deleted {file.relative_to(root)}"


def delete_folder(root, chance):
    folder = some_folder(root, chance)
    shutil.rmtree(folder)
    root.mkdir(exist_ok=True)
    return f"deleted the folder {folder.relative_to(root)}"


def empty_folder(root, chance):
    file = some_file(root, chance)
    file.unlink()
    file.mkdir()
    if chance.random() < 0.5:
        (file / file.name).write_bytes(b"PK")
    return f"made a folder of {file.relative_to(root)}"


def pack(root, chance):
    folder = some_folder(root, chance)
    if folder != root:
        shutil.rmtree(folder)
        folder.with_name(f"{folder.name}{chance.choice(('', '.zip'))}").write_bytes(b"PK\3\4")
    return f"packed {folder.relative_to(root)}"


def rename_folder(root, chance):
    folder = some_folder(root, chance)
    new = folder.with_name(chance.choice((folder.name.swapcase(), f"{folder.name} 2", some_folder(root, chance).name)))
    if folder != root and not os.path.lexists(new):
        folder.rename(new)
    return f"renamed the folder {folder.relative_to(root)} to {new.name}"


def copy_folder(root, chance):
    folder = some_folder(root, chance)
    new = folder.with_name(
        chance.choice((f"{folder.name} copy", folder.name.swapcase(), some_folder(root, chance).name))
    )
    if folder != root and not os.path.lexists(new):
        shutil.copytree(folder, new, symlinks=True)
    return f"copied the folder {folder.relative_to(root)} to {new.name}"


def nest(root, chance):
    """As unpacking into a folder of the same name does, once to three times."""
    folder = some_folder(root, chance)
    if folder != root:
        for _ in range(chance.randrange(1, 4)):
            folder.rename(folder.with_name("aside"))
            folder.mkdir()
            folder.with_name("aside").rename(folder / folder.name)
    return f"put {folder.relative_to(root)} into itself"


def link(root, chance):
    file = some_file(root, chance)
    folder = some_folder(root, chance)
    target = chance.choice(
        (some_file(root, chance), some_file(root, chance), file, "/etc/passwd", "nowhere.png", folder)
    )
    file.unlink()
    file.symlink_to(target)
    return f"linked {file.relative_to(root)} to {target}"


def link_folder(root, chance):
    folder = some_folder(root, chance)
    where = folder / f"loop{chance.choice(('', '.png'))}"
    if not os.path.lexists(where):
        where.symlink_to(chance.choice((folder, root, some_folder(root, chance))))
    return f"linked {where.relative_to(root)} to a folder"


def lines(root, chance):
    texts = [
        root / path for path, kind in sorted(contents(root).items()) if isinstance(kind, bytes) and path.endswith(TEXTS)
    ]
    if not texts:
        return truncate(root, chance)
    file = chance.choice(texts)
    rows = file.read_bytes().splitlines(keepends=True) or [b""]
    one, two = chance.randrange(len(rows)), chance.randrange(len(rows))
    what = chance.choice(("lost", "twice", "swapped", "mixed", "ends", "mark", "utf-16", "cells"))
    if what == "lost":
        del rows[one]
    elif what == "twice":
        rows.insert(two, rows[one])
    elif what == "swapped":
        rows[one], rows[two] = rows[two], rows[one]
    elif what == "mixed":
        rows[one] = rows[one][: len(rows[one]) // 2] + rows[two][len(rows[two]) // 2 :]
    elif what == "ends":
        rows = [row.rstrip(b"\r\n") + chance.choice((b"\n", b"\r\n", b"\n\n")) for row in rows]
    elif what == "mark":
        rows.insert(0, b"\xef\xbb\xbf")
    elif what == "cells":
        rows[one] = rows[one].replace(chance.choice((b",", b" ", b"0", b'"')), chance.choice((b",,", b"", b"-", b'"')))
    data = b"".join(rows)
    file.write_bytes(data.decode("latin-1").encode("utf-16") if what == "utf-16" else data)
    return f"rows of {file.relative_to(root)}: {what}"


DAMAGES = (
    truncate, garble, rename, swap, duplicate, delete, delete_folder, empty_folder, pack, rename_folder, copy_folder, nest, link,
    link_folder, lines,
)  # fmt: skip
WEIGHTS = (4, 2, 4, 3, 4, 3, 1, 1, 1, 1, 1, 1, 1, 1, 3)
