"""The words every room shares. Rooms import this package and never each other.

    people ─▶ functions/keys ─▶ registry ─▶ proxy_service ─▶ topic ─▶ functions/ingest ─▶ warehouse (sql/)
                                   ▲                                                         │
                                   └───────────────── functions/alerts ◀─────────────────────┤
                                                      streamlit_app ◀────────────────────────┘

events      one request to a model, as published and as stored
tools       which coding agent sent it
prices      the dated price book; price_list: its entries, price_timeline: what decides a price from day to day
contract    what the company pays other than the public list
chargeback  seats, cost centres and true-ups
keys        make, check and hash a key
budgets     what may be spent, as policy/ says
periods     days, weeks and months in the company's time zone
standings   where a budget stands: thresholds, pace, forecast
gate        what the gateways are told of budgets
raises      more of a budget, asked for and granted
people      who belongs to the company: people.csv alone
policy      read and check policy/; its files by policy_csv and policy_yaml
company     the rules of a company: time zone, keys, alerts
registry    documents with a version: keys, alerts already sent
audit       who did what, before and after
identity    who is asking, as IAP or Google signed it
connecting  what to paste so that an agent goes through the gateway
warehouse   rows in, rows out: bigquery_warehouse in the cloud, duckdb_warehouse and http_warehouse on a laptop
schema      tables and views, as sql/ describes them
rollup      tokens of each day, summed again when events came in
dialect     BigQuery SQL to DuckDB
exports     a month's charges as CSV
messages    what Tally says to people, and what every way to them promises
channels    how a message is handed over; the ways: slack_channel, mail_channel, webhook_channel
wording     how amounts, days and numbers are written
settings    the only file that reads the environment
logs        one JSON line per record
"""
