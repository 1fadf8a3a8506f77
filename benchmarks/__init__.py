"""Benchmarks: the same load on dapr-shared and on daprd, in alternation (`python -m benchmarks --help`).

`scenarios` says what is measured, `ours` and `peer` start what is measured, `load` drives wrk and h2load, `measure`
runs rounds, `footprint` looks at memory and start, `report` makes the tables. `wire_http.py` and `wire_grpc.py` are
scripts of their own for the wire code alone.
"""
