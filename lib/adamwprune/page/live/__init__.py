"""``make watch``: the report, served to this machine's browsers while its runs are trained.

``seen`` looks at the runs' directories and says what a page shows; ``server`` hands it out.
"""
