"""A Flask application whose uploads are on every media server when its answer arrives.

$ MEDIA_ROOT=/srv/media RESTO_MEDIA_HOSTS=media-01:8080,media-02:8080 python flask_app.py
"""

import os

from flask import Flask, render_template_string, request

from resto_wsgi import Replicator, Settings, UploadMiddleware, uploads_of

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Uploads to Flask</title>
<style>body { font: 1rem/1.6 system-ui, sans-serif; max-width: 42rem; margin: 3rem auto; padding: 0 1rem }
       input, button { font: inherit } li { margin: 1rem 0; overflow-wrap: anywhere }</style>
<h1>Uploads to Flask</h1>
<form method="post" enctype="multipart/form-data">
  <p><label>Title <input name="title"></label>
  <p><label>Files <input name="files" type="file" multiple></label>
  <p><button>Upload</button>
</form>
{% if request.method == "POST" %}
<h2>On every media server</h2>
<ul>{% for upload in uploads %}
  <li><a href="{{ upload.url }}">{{ upload.name }}</a><br>
      {{ upload.size }} bytes, SHA-256 <code>{{ upload.sha256 }}</code>{% endfor %}</ul>
<h2>As Flask read it</h2>
<p>“{{ request.form["title"] }}”
<ul>{% for name, size in seen %}<li>{{ name }}, {{ size }} bytes{% endfor %}</ul>
{% endif %}
"""

app = Flask(__name__)


@app.route("/", methods=["GET", "POST"])
def index():
    # request.files is as ever: Flask reads the very body that the browser sent.
    seen = []
    for file in filter(None, request.files.getlist("files")):  # a picker that was left empty comes as a false one
        file.seek(0, os.SEEK_END)
        seen.append((file.filename, file.tell()))
    # What the middleware caught; nothing if the request was not a multipart form.
    return render_template_string(PAGE, uploads=uploads_of(request.environ), seen=seen)


# `app.wsgi_app = UploadMiddleware(app.wsgi_app, ...)` does the same and keeps `flask run` working.
application = UploadMiddleware(app, Replicator(Settings.from_environ(os.environ)), paths=["/"])

if __name__ == "__main__":
    from waitress import serve

    print("http://127.0.0.1:8000/")
    serve(application, listen="127.0.0.1:8000")
