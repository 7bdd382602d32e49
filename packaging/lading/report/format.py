"""Figures for people: decimal sizes, durations, counts. Pure."""

from __future__ import annotations

_STEPS = ((10**9, "GB", 2), (10**6, "MB", 1), (10**3, "kB", 1))


def size(count: int) -> str:
    """Bytes in decimal units, as disks and downloads are sold: ``1.87 GB``, ``68.4 MB``, ``512 B``."""
    for unit, name, digits in _STEPS:
        # 999,950 bytes would be shown as 1000.0 kB; the next unit begins where rounding reaches it.
        if abs(count) >= unit * (1 - 0.5 * 10**-digits / 1000):
            return f"{count / unit:,.{digits}f} {name}"
    return f"{count:,} B"


def duration(seconds: float) -> str:
    """``0.4 s``, ``12.3 s``, ``2 min 05 s``, ``1 h 02 min``."""
    if seconds < 59.95:  # noqa: PLR2004 (what would be shown as 60.0 s is a minute)
        return f"{seconds:.1f} s" if seconds >= 0.05 else f"{seconds * 1000:.0f} ms"  # noqa: PLR2004 (shown as 0.0 s)
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {left:02d} s"


def share(part: float, whole: float) -> str:
    """A percentage without decimals; ``<1 %`` for what would be shown as nothing; empty without a whole."""
    if whole <= 0:
        return ""
    value = 100 * part / whole
    return "<1 %" if 0 < value < 0.5 else f"{value:.0f} %"  # noqa: PLR2004 (rounds to nothing)


def speed(count: int, seconds: float) -> str:
    """Bytes a second: ``412.0 MB/s``; empty without a duration."""
    return f"{size(int(count / seconds))}/s" if seconds > 0 else ""


def plural(count: int, one: str, many: str | None = None) -> str:
    """``1 file``, ``2,489 files``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def bar(part: float, whole: float, width: int) -> str:
    """A bar of eighth blocks, exactly ``width`` columns wide."""
    eighths = round(max(0.0, min(1.0, part / whole if whole > 0 else 0.0)) * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (" ▏▎▍▌▋▊▉"[rest] if rest else "")).ljust(width)


def shorten(text: str, width: int) -> str:
    """At most ``width`` characters; what is cut from the middle is replaced by an ellipsis."""
    if len(text) <= width:
        return text
    head = (width - 1) // 2
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"
