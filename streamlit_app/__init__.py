"""The views people look at: aggregated in the warehouse, drawn here.

app         what is served: the door, and behind it the pages
door        who is let in at all, page and websocket
identity    who is looking
queries     everything a page asks of the warehouse and the policy
acts        the audit log, for admins
figures     what a page states, computed from rows: pure
health      the same for Data health
books       the same for Statements
charts      the few chart shapes
states      heading, loading, empty, late and failed
tables      the tables, and their CSV
health_tables, book_tables   those of Data health and Statements
tiles       a figure, how it moved, its course
wording     numbers and times as people say them
pages/      one file per page, and shell, which surrounds them
"""
