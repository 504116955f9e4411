"""One page a case: key images, findings, the reader's decisions, where it all comes from."""
