"""Reports and the live dashboard.

`facts` are read from studies, `figures` are drawn from facts, `report` and `app` put both on pages.

Nothing here writes to a store. Facts do not import Plotly, and figures do not open the database.
"""
