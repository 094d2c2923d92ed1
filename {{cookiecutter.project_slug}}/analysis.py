{% include cookiecutter.workload ~ "/analysis.py" %}
