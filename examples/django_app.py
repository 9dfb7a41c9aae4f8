"""A Django project in one file, whose uploads are on every media server when its answer arrives.

$ MEDIA_ROOT=/srv/media RESTO_MEDIA_HOSTS=media-01:8080,media-02:8080 python django_app.py
"""

import os
import secrets

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.template import engines
from django.urls import path

from resto_wsgi import Replicator, Settings, UploadMiddleware, uploads_of

settings.configure(
    SECRET_KEY=secrets.token_urlsafe(50),  # nothing here is signed with it; a site with sessions keeps one
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    ROOT_URLCONF=__name__,
    # A request that this refuses (403) is not published: the middleware removes its files.
    MIDDLEWARE=["django.middleware.csrf.CsrfViewMiddleware"],
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
)
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Uploads to Django</title>
<style>body { font: 1rem/1.6 system-ui, sans-serif; max-width: 42rem; margin: 3rem auto; padding: 0 1rem }
       input, button { font: inherit } li { margin: 1rem 0; overflow-wrap: anywhere }</style>
<h1>Uploads to Django</h1>
<form method="post" enctype="multipart/form-data">{% csrf_token %}
  <p><label>Title <input name="title"></label>
  <p><label>Files <input name="files" type="file" multiple></label>
  <p><button>Upload</button>
</form>
{% if uploads is not None %}<h2>On every media server</h2>
<ul>{% for upload in uploads %}<li><a href="{{ upload.url }}">{{ upload.name }}</a><br>
  {{ upload.size }} bytes, SHA-256 <code>{{ upload.sha256 }}</code>{% endfor %}</ul>
<h2>As Django read it</h2><p>“{{ title }}”
<ul>{% for file in seen %}<li>{{ file.name }}, {{ file.size }} bytes{% endfor %}</ul>{% endif %}
"""


def index(request):
    # request.FILES is as ever. What the middleware caught is missing where the request was not a multipart form.
    seen, uploads = request.FILES.getlist("files"), uploads_of(request.environ)
    context = {"uploads": uploads, "title": request.POST.get("title", ""), "seen": seen}
    return HttpResponse(engines["django"].from_string(PAGE).render(context, request))


urlpatterns = [path("", index)]
app = get_wsgi_application()
# Settings.from_mapping(settings) takes the same names from settings.py.
application = UploadMiddleware(app, Replicator(Settings.from_environ(os.environ)), paths=["/"])

if __name__ == "__main__":
    from waitress import serve

    print("http://127.0.0.1:8000/")
    serve(application, listen="127.0.0.1:8000")
