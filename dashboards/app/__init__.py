"""The live dashboard: `live` follows studies, `panels` shows them, `server` connects both to Dash.

`requests` says which requests are answered.
"""
