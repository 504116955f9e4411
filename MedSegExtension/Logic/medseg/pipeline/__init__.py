"""From volumes to a `Result`: `run` goes through the stages preprocess, infer, restore, postprocess; `explain`
says it in words."""
