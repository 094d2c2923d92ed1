{% include cookiecutter.workload ~ "/run.py" %}
