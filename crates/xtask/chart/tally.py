"""Counts checks and prints those that fail; the last line is `N passed, N failed`."""

import sys


class Tally:
    def __init__(self):
        self.passed = 0
        self.failed = 0

    def check(self, claim, held, told=""):
        """One claim: held, or not and what was seen instead."""
        if held:
            self.passed += 1
        else:
            self.failed += 1
            print(f"FAILED: {claim}" + (f": {told}" if told != "" else ""), flush=True)
        return held

    def nothing(self, claim, found):
        """A claim that holds when no exception to it was found."""
        return self.check(claim, not found, "; ".join(str(it) for it in found))

    def end(self):
        """Prints the sum and ends the program."""
        print(f"{self.passed} passed, {self.failed} failed", flush=True)
        sys.exit(1 if self.failed or not self.passed else 0)
