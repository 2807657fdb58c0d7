"""What is written down about a result: code, versions, sums; and whether it is stale."""
