"""How long something took, for people."""


def duration(seconds: float) -> str:
    """For example `41 s`, `7 min`, `2 h 41 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
