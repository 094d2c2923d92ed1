{% include "sweep/analysis.py" %}
