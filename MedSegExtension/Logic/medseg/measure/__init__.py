"""From labels and scores to tables. `segments` is the table that every result has,
`named` those that a manifest asks for."""
