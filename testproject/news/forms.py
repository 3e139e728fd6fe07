"""What a visitor may write."""

from django import forms


class TitleForm(forms.Form):
    title = forms.CharField(max_length=200)


class CommentForm(forms.Form):
    author_name = forms.CharField(label="Your name", max_length=100)
    text = forms.CharField(label="Comment", widget=forms.Textarea(attrs={"rows": 3}))
