"""What ``deeper evaluate`` prints: metrics as JSON, and a table by class beside them."""

import io
import json

from rich.console import Console

from deeper.display.evaluation import MOST_CLASSES, print_result


def printed(result):
    out, remarks = (Console(file=io.StringIO(), width=80) for _ in range(2))
    print_result(result, "test", out, remarks)
    return json.loads(out.file.getvalue()), remarks.file.getvalue()


def test_classes_have_a_table_beside_the_metrics():
    shown, table = printed(
        {
            "test/ap": 41.5,
            "ap_by_class": {"[red]dog": 12.345, "cat" * 40: float("nan")},
            "ap50_by_class": {"[red]dog": 70.0},
            "n_by_class": {"[red]dog": 1200, "cat" * 40: 0},
        }
    )
    assert shown == {"test/ap": 41.5}
    heading, dog, cat = table.splitlines()
    assert heading.split() == ["class", "n", "ap", "ap50"]
    assert dog.split() == ["[red]dog", "1,200", "12.35", "70.00"]
    assert cat.split()[1:] == ["0", "–", "–"] and len(cat) <= 80


def test_very_many_classes_are_left_to_the_file():
    names = [f"class{number}" for number in range(MOST_CLASSES + 1)]
    shown, told = printed(
        {"error_by_class": dict.fromkeys(names, 1.0), "n_by_class": dict.fromkeys(names, 2)}
    )
    assert shown == {} and "class7" not in told and "out=" in told


def test_a_task_without_classes_has_no_table():
    assert printed({"test/error": 1.0})[1] == ""
