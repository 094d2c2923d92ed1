{% include "stages/ising.py" %}
