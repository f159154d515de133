"""The workshop: what any worker process carries; it knows no resource, page or manifest."""
