"""A plain WSGI application whose uploads are on every media server when its answer arrives.

$ MEDIA_ROOT=/srv/media RESTO_MEDIA_HOSTS=media-01:8080,media-02:8080 python plain.py
"""

import os
from html import escape

from multipart import parse_form_data

from resto_wsgi import Replicator, Settings, UploadMiddleware, uploads_of

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Uploads to plain WSGI</title>
<style>body {{ font: 1rem/1.6 system-ui, sans-serif; max-width: 42rem; margin: 3rem auto; padding: 0 1rem }}
       input, button {{ font: inherit }} li {{ margin: 1rem 0; overflow-wrap: anywhere }}</style>
<h1>Uploads to plain WSGI</h1>
<form method="post" enctype="multipart/form-data">
  <p><label>Title <input name="title"></label>
  <p><label>Files <input name="files" type="file" multiple></label>
  <p><button>Upload</button>
</form>
{result}
"""


def app(environ, start_response):
    result = ""
    if environ["REQUEST_METHOD"] == "POST":
        # What the middleware caught; nothing if the request was not a multipart form.
        stored = [
            f'<li><a href="{escape(upload.url)}">{escape(upload.name)}</a><br>'
            f"{upload.size} bytes, SHA-256 <code>{upload.sha256}</code>"
            for upload in uploads_of(environ)
        ]
        # The body is still the one that the browser sent, for any parser that the application likes.
        texts, files = parse_form_data(environ)
        seen = [f"<li>{escape(file.filename or '')}, {file.size} bytes" for file in files.getall("files")]
        for _, file in files.iterallitems():
            file.close()
        result = (
            f"<h2>On every media server</h2><ul>{''.join(stored)}</ul>"
            f"<h2>As the application read it</h2><p>“{escape(texts.get('title', ''))}”<ul>{''.join(seen)}</ul>"
        )
    body = PAGE.format(result=result).encode()
    start_response("200 OK", [("Content-Type", "text/html; charset=utf-8"), ("Content-Length", str(len(body)))])
    return [body]


application = UploadMiddleware(app, Replicator(Settings.from_environ(os.environ)), paths=["/"])

if __name__ == "__main__":
    from waitress import serve

    print("http://127.0.0.1:8000/")
    serve(application, listen="127.0.0.1:8000")
