"""Where models come from: published weights and other people's files (`importer`), the
list of published models (`catalogue`)."""
