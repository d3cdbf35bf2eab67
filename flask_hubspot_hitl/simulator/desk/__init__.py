"""The agent's side: the desk's pages, and the control routes behind them."""
