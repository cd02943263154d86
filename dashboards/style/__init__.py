"""How pages and figures look: `theme` holds colours and Plotly templates, `css` the style sheets."""
