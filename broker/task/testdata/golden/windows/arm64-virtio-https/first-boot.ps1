# Written by muster. Tells the broker, once, that Windows came up from its own disk, then removes what holds tokens and
# passwords.
$ProgressPreference = 'SilentlyContinue'
[Net.ServicePointManager]::SecurityProtocol = 'Tls12'
$ca = New-Object Security.Cryptography.X509Certificates.X509Certificate2 (, [Convert]::FromBase64String('LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1JSUJkRENDQVJxZ0F3SUJBZ0lCQVRBS0JnZ3Foa2pPUFFRREFqQVFNUTR3REFZRFZRUURFd1Z0ZVNCRFFUQWUKRncweU5qQXhNREV3TURBd01EQmFGdzB6TmpBeE1ERXdNREF3TURCYU1CQXhEakFNQmdOVkJBTVRCVzE1SUVOQgotLS0tLUVORCBDRVJUSUZJQ0FURS0tLS0tCg=='))
$roots = New-Object Security.Cryptography.X509Certificates.X509Store 'Root', 'LocalMachine'
$roots.Open('ReadWrite')
$roots.Add($ca)
$form = @{ hostname = $env:COMPUTERNAME; kernel = [Environment]::OSVersion.VersionString }
$wait = 1
while ($true) {
    $status = 0
    try {
        Invoke-WebRequest -UseBasicParsing -Method Post -Uri 'https://muster.example.net:8443/node/v1/install/node3.1.00ff00ff/done/first-boot' -Body $form -TimeoutSec 20 | Out-Null
        break
    } catch {
        if ($_.Exception.Response) { $status = [int]$_.Exception.Response.StatusCode }
    }
    if ($status -eq 404) { break } # the broker waits for it no more
    Start-Sleep $wait
    $wait = [Math]::Min(60, 2 * $wait)
}
$roots.Remove($ca)
Remove-Item -Force -ErrorAction SilentlyContinue "$env:SystemRoot\Panther\unattend.xml", $PSCommandPath
