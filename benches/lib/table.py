"""The table: medians over rounds, and each peer's figure as a part of Kafka's."""

import json
import statistics
import sys

from brokers import KAFKA


def number(figure):
    """A figure with three digits that count, or a dash."""
    if figure is None:
        return "-"
    digits = 0 if abs(figure) >= 100 else 1 if abs(figure) >= 10 else 2 if abs(figure) >= 1 else 3
    return f"{figure:.{digits}f}"


class Table:
    """All figures of a run: line, figure, peer, one value a round."""

    def __init__(self, peers):
        self.peers, self.figures = peers, {}

    def add(self, line, peer, figures):
        """The figures of one round."""
        for name, value in figures.items():
            self.figures.setdefault((line, name), {}).setdefault(peer, []).append(value)

    def report(self, line, peer, figures):
        """As `add`, and shows the figures at once."""
        self.add(line, peer, figures)
        text = "  ".join(f"{value:9.3f} {name}" for name, value in figures.items())
        print(f"  {line:<34} {peer:<17} {text}", file=sys.stderr, flush=True)

    def json(self):
        """Every value, as JSON."""
        return json.dumps([{"row": line, "figure": name, "peers": values} for (line, name), values in self.figures.items()], indent=1)

    def print(self, as_json, heading):
        """Prints every value as JSON, or the medians as Markdown under a heading."""
        if as_json:
            print(self.json())
        elif self.figures:
            print(f"{heading}\n\n{self.markdown()}")

    def markdown(self):
        """The medians, as Markdown."""
        compared = [peer for peer in self.peers if peer != KAFKA] if KAFKA in self.peers else []
        heads = ["row", "figure", *self.peers, *(f"{peer} / {KAFKA}" for peer in compared)]
        lines = [heads, ["---"] * len(heads)]
        for (line, name), values in self.figures.items():
            median = {peer: statistics.median(all_rounds) for peer, all_rounds in values.items()}
            kafka = median.get(KAFKA)
            ratios = [f"{median[peer] / kafka:.2f}" if kafka and peer in median else "-" for peer in compared]
            lines.append([line, name, *(number(median.get(peer)) for peer in self.peers), *ratios])
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)
