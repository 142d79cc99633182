"""Checks helm/roomcast and deploy/ without a cluster, an engine or a network; started by `make chart`.

Takes the repository's root, the binary `roomcast` and `promtool`. Each check is a claim; a claim that does not hold is
printed with what was seen.
"""

import pathlib
import sys

import chart
import deploy
from tally import Tally


def main():
    root, roomcast, promtool = (pathlib.Path(arg) for arg in sys.argv[1:4])
    tally = Tally()
    metrics = deploy.known_metrics(root)
    chart.check(tally, root, roomcast, metrics)
    deploy.check(tally, root, roomcast, promtool, metrics)
    tally.end()


main()
