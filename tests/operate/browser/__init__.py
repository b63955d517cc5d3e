"""The web page of a run in headless Chromium. With OPERATE_SCREENS=FOLDER its pictures are kept there."""
