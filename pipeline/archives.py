"""Zip archives that others wrote: how much they hold is looked at before any of it is unpacked."""

import zipfile

LEAST_SUSPECT_BYTES = 2**28
MOST_TIMES_LARGER = 200  # deflate reaches 1,032 for bytes that are all the same; arrays of numbers seldom pass 20


def refuse_bombs(archive: zipfile.ZipFile) -> None:
    """Refuse an archive in which a large member was packed to next to nothing.

    The sizes are those that the archive's directory states; `zipfile` reads no member beyond them and then compares
    its checksum, so a directory that lies gains nothing.

    Raises:
        BadZipFile: there is such a member.
    """
    for member in archive.infolist():
        if member.file_size >= LEAST_SUSPECT_BYTES and member.file_size > MOST_TIMES_LARGER * member.compress_size:
            raise zipfile.BadZipFile(
                f"{member.filename}: {member.compress_size:,} bytes that would unpack to {member.file_size:,}, "
                f"more than {MOST_TIMES_LARGER} times as many; if that is right, save it without compression"
            )
