@echo off
rem Written by muster. Windows runs this once, as SYSTEM, before anybody can log in.
start "" powershell.exe -NoProfile -ExecutionPolicy Bypass -File "%SystemRoot%\Setup\Scripts\first-boot.ps1"
