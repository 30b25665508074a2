"""One evaluation of model lines: measures, decision costs, report, figures, MLflow run."""
