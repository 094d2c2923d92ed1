{% include cookiecutter.workload ~ "/tests/test_project.py" %}
