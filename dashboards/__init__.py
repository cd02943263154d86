"""What looks at studies: facts read from them, figures drawn from facts, the report and the Dash page.

Nothing here writes to a store. Facts know no Plotly, figures know no database, the app only wires them.
"""
