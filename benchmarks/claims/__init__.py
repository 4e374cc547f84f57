"""The method's claims, tested at small scale through the product's own path, from scratch on generated scenes.

Read `arms.py` first: what is compared. `pictures.py` says on which images, `runner.py` trains and scores several
runs at a time, `report.py` makes docs/claims.md of the results.
"""
