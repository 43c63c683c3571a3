#!/bin/sh
{{template "_tell" .}}{{template "_guard" .}}
