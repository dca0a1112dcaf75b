"""The words every room shares. Rooms import this package and never each other.

    people ─▶ functions/keys ─▶ registry ─▶ proxy_service ─▶ topic ─▶ functions/ingest ─▶ warehouse (sql/)
                                   ▲                                                         │
                                   └───────────────── functions/alerts ◀─────────────────────┤
                                                      streamlit_app ◀────────────────────────┘

events      one request to a model, as published and as stored
tools       which coding agent sent it
prices      the dated price book
keys        make, check and hash a key
budgets     periods, thresholds, pace, forecast: pure functions
policy      read and check policy/
registry    documents with a version: keys, alerts already sent
warehouse   rows in, rows out: BigQuery in the cloud, DuckDB on a laptop
dialect     BigQuery SQL to DuckDB
messages    what Tally says to people, by Slack and e-mail
settings    the only file that reads the environment
logs        one JSON line per record
"""
