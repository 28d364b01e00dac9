"""What of a printed figure lies outside its sheet."""

from matplotlib.figure import Figure
from matplotlib.text import Text


def cut_texts(figure: Figure) -> list[str]:
    """The texts of a figure that do not lie whole on its canvas."""
    figure.draw_without_rendering()  # puts titles and ticks where they are printed
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]
    assert texts
    width, height = figure.bbox.size
    cut = []
    for text in texts:
        box = text.get_window_extent()
        if box.x0 < 0 or box.y0 < 0 or box.x1 > width or box.y1 > height:
            cut.append(text.get_text())
    return cut
