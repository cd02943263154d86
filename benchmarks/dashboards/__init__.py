"""The dashboard before large studies, in a real browser, beside a blank page and optuna-dashboard."""
