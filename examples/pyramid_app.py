"""A Pyramid application whose uploads are on every media server when its answer arrives.

$ MEDIA_ROOT=/srv/media RESTO_MEDIA_HOSTS=media-01:8080,media-02:8080 python pyramid_app.py
"""

import os
from html import escape

from pyramid.config import Configurator
from pyramid.response import Response

from resto_wsgi import Replicator, Settings, UploadMiddleware, uploads_of

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Uploads to Pyramid</title>
<style>body {{ font: 1rem/1.6 system-ui, sans-serif; max-width: 42rem; margin: 3rem auto; padding: 0 1rem }}
       input, button {{ font: inherit }} li {{ margin: 1rem 0; overflow-wrap: anywhere }}</style>
<h1>Uploads to Pyramid</h1>
<form method="post" enctype="multipart/form-data">
  <p><label>Title <input name="title"></label>
  <p><label>Files <input name="files" type="file" multiple></label>
  <p><button>Upload</button>
</form>
{result}
"""


def index(request):
    if request.method != "POST":
        return Response(PAGE.format(result=""))
    # What the middleware caught; nothing if the request was not a multipart form.
    result = "<h2>On every media server</h2><ul>" + "".join(
        f'<li><a href="{escape(upload.url)}">{escape(upload.name)}</a><br>'
        f"{upload.size} bytes, SHA-256 <code>{upload.sha256}</code>"
        for upload in uploads_of(request.environ)
    )
    # request.POST is as ever, but it comes parsed: Pyramid need not read the body again.
    result += f"</ul><h2>As Pyramid read it</h2><p>“{escape(request.POST.get('title', ''))}”<ul>"
    for field in request.POST.getall("files"):
        if hasattr(field, "file"):  # a picker that was left empty comes as b""
            field.file.seek(0, os.SEEK_END)
            result += f"<li>{escape(field.filename)}, {field.file.tell()} bytes"
    return Response(PAGE.format(result=result + "</ul>"))


with Configurator() as config:
    config.add_route("index", "/")
    config.add_view(index, route_name="index")
    app = config.make_wsgi_app()

# In an ini file, a pipeline through [filter:resto] with `use = egg:resto_wsgi` does the same.
application = UploadMiddleware(app, Replicator(Settings.from_environ(os.environ)), paths=["/"])

if __name__ == "__main__":
    from waitress import serve

    print("http://127.0.0.1:8000/")
    serve(application, listen="127.0.0.1:8000")
