"""What of a config changes no number of a run: the one list, for its name and for its reports."""

# Keys, each with all that stands under it. A recipe's section is its name and its source: what it
# sets stands in other sections.
CHANGES_NO_NUMBER = (
    "label", "choices", "runs", "tracker", "study", "mode", "recipe", "data.dir",
    "data.original_dir", "data.on_device", "data.workers", "data.processes",
)  # fmt: skip


def changes_no_number(key: str) -> bool:
    """Return whether a dotted key of a config is one of `CHANGES_NO_NUMBER`, or under one."""
    return any(f"{key}.".startswith(f"{name}.") for name in CHANGES_NO_NUMBER)
