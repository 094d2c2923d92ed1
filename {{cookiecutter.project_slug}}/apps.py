{% include cookiecutter.workload ~ "/apps.py" %}
