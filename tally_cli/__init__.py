"""`tally` on the command line: one's own keys and budgets, by the JSON endpoint of the keys function.

It runs on people's machines, so it needs Python and nothing else: the standard library, and `governance.connecting`,
which needs nothing either.
"""
