"""The table of a net's layers as text, complete or in short form for a terminal."""

from deeper.profile.layer_table import Layer

HEADINGS = (
    "layer", "kind", "kernel", "stride", "padding", "output", "parameters", "MACs", "share",
    "field", "jump", "centre",
)  # fmt: skip
# A window of 3x3/2 p1 is a 3x3 kernel of stride 2 with padding 1.
SHORT_HEADINGS = (
    "layer", "kind", "window", "output", "params", "MMAC", "share", "sees", "jump", "centre",
)  # fmt: skip


def row_of(layer: Layer, total: int, plain: bool = False) -> tuple[str, ...]:
    """Return a layer's cells, as `HEADINGS` names them.

    Args:
        layer: the layer.
        total: multiply-accumulates of the net.
        plain: numbers without commas, for a program to read.
    """

    def number(value: int) -> str:
        return str(value) if plain else f"{value:,}"

    field = layer.field
    sees = ("", "", "")
    if field is not None:
        sees = (f"{field.size}", f"{field.jump:g}", f"{field.centre:g}")
        if field.jump == 0:
            sees = (f"{field.size}", "", "")
    return (
        layer.name,
        layer.kind,
        layer.kernel,
        layer.stride,
        layer.padding,
        "x".join(map(str, layer.output)),
        number(layer.parameters),
        number(layer.macs),
        f"{100 * layer.macs / total:.1f} %" if total and layer.macs else "",
        *sees,
    )


def short_row_of(layer: Layer, total: int) -> tuple[str, ...]:
    """Return a layer's cells, as `SHORT_HEADINGS` names them.

    Args:
        layer: the layer.
        total: multiply-accumulates of the net.
    """
    name, kind, kernel, stride, padding, output, parameters, _, *rest = row_of(layer, total)
    window = kernel
    if kernel:
        across = {*stride.split("x")}
        window += "" if across == {"1"} else f"/{across.pop() if len(across) == 1 else stride}"
        window += "" if padding == "0" else f" p{padding}"
    # Zeros are left out, so that the costs stand out.
    macs = f"{layer.macs / 1e6:,.1f}" if layer.macs else ""
    shown = parameters if layer.parameters else ""
    return (name, kind, window, output, shown, macs, *rest)
