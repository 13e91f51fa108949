"""From offers to plans: funnel, terms, proof and its worker, ledger, ranking."""
