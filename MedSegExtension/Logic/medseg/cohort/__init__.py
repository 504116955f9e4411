"""One model over many cases: worker processes, a journal of what is done, one table of all measurements."""
