"""`pagemill embedder report`: what the visual embedder does on this machine's device, with random weights, offline.

plan.py         the sections, and how the minutes are shared among them
runner.py       the command: one child process for each step, so that no failure ends the report
child.py        a step: sections one after another, a line of JSON each
document.py     report.md and report.json; plots.py draws
all others      the sections
"""
