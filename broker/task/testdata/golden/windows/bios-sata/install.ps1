# Written by muster. Lays Windows onto the one disk that was chosen, and tells the broker how far it is.
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
[Net.ServicePointManager]::SecurityProtocol = 'Tls12'
$system = "$env:SystemRoot\System32"
$repo = 'http://192.0.2.10:8080/repo/tree'
$image = 'sources/install.wim'
$edition = 'standard'
$uefi = $false
$share = ''
$user = ''
$password = ''
$drivers = ''
$done = 'http://192.0.2.10:8080/node/v1/install/node1.1.00ff00ff/done/install'
$failed = 'http://192.0.2.10:8080/node/v1/install/node1.1.00ff00ff/failed/install'

function Send-Call([string]$url, [hashtable]$form = @{}) {
    Invoke-WebRequest -UseBasicParsing -Method Post -Uri $url -Body $form -TimeoutSec 20 | Out-Null
}
function Send-Quietly([string]$url, [hashtable]$form = @{}) {
    try { Send-Call $url $form } catch { Write-Host "muster: $_" }
}
# The network may come long after wpeinit has ended. It is false when the broker waits for this install no more.
function Send-UntilHeard([string]$url) {
    $wait = 1
    while ($true) {
        $status = 0
        try {
            Send-Call $url
            return $true
        } catch {
            Write-Host "muster: $_"
            if ($_.Exception.Response) { $status = [int]$_.Exception.Response.StatusCode }
        }
        if ($status -eq 404) { return $false }
        Start-Sleep $wait
        $wait = [Math]::Min(60, 2 * $wait)
    }
}
function Invoke-Program([string]$name, [string[]]$words) {
    & $name @words | Write-Host
    if ($LASTEXITCODE -ne 0) { throw "$name ended with status $LASTEXITCODE" }
}

# Partitions as Windows wants them, each with its letter before the next step.
function Initialize-ChosenDisk($disk) {
    $lines = @("select disk $($disk.Number)", 'online disk noerr', 'attributes disk clear readonly noerr', 'clean')
    if ($uefi) {
        $lines += 'convert gpt', 'create partition efi size=260', 'format quick fs=fat32 label=System', 'assign letter=S', 'create partition msr size=16'
    } else {
        $lines += 'convert mbr', 'create partition primary size=500', 'format quick fs=ntfs label=System', 'assign letter=S', 'active'
    }
    $lines += 'create partition primary', 'format quick fs=ntfs label=Windows', 'assign letter=W'
    Set-Content -Encoding ASCII -Path X:\layout.txt -Value $lines
    Invoke-Program 'diskpart.exe' @('/s', 'X:\layout.txt')
}

# An image that comes over HTTP is laid beside what is made of it, and removed.
function Expand-Edition {
    $file = 'W:\muster.wim'
    if ($share) {
        $words = @('use', 'Z:', $share)
        if ($user) { $words += @($password, "/user:$user") }
        Invoke-Program 'net.exe' $words
        $file = Join-Path 'Z:\' $image
    } elseif (Get-Command curl.exe -ErrorAction SilentlyContinue) {
        Invoke-Program 'curl.exe' @('-fsS', '--retry', '5', '-o', $file, "$repo/$image")
    } else {
        Invoke-WebRequest -UseBasicParsing -Uri "$repo/$image" -OutFile $file
    }
    Send-Quietly 'http://192.0.2.10:8080/node/v1/install/node1.1.00ff00ff/phase/apply'
    $index = @{ 'standard-core' = 1; 'standard' = 2; 'datacenter-core' = 3; 'datacenter' = 4 }[$edition]
    Invoke-Program 'dism.exe' @('/Apply-Image', "/ImageFile:$file", "/Index:$index", '/ApplyDir:W:\', '/CheckIntegrity')
    if (-not $share) { Remove-Item $file }
}

try {
    . "$system\disk.ps1"
    $disk = Find-ChosenDisk
    if (-not (Send-UntilHeard 'http://192.0.2.10:8080/node/v1/install/node1.1.00ff00ff/phase/partition')) { throw 'the broker waits for this install no more: nothing was written' }
    Initialize-ChosenDisk $disk
    Send-Quietly 'http://192.0.2.10:8080/node/v1/install/node1.1.00ff00ff/phase/fetch'
    Expand-Edition
    if ($drivers) { Invoke-Program 'dism.exe' @('/Image:W:\', '/Add-Driver', "/Driver:$(Join-Path 'Z:\' $drivers)", '/Recurse') }
    $firmware = if ($uefi) { 'UEFI' } else { 'BIOS' }
    Invoke-Program 'bcdboot.exe' @('W:\Windows', '/s', 'S:', '/f', $firmware)
    New-Item -ItemType Directory -Force 'W:\Windows\Panther', 'W:\Windows\Setup\Scripts' | Out-Null
    Copy-Item "$system\answers.xml" 'W:\Windows\Panther\unattend.xml'
    Copy-Item "$system\SetupComplete.cmd", "$system\first-boot.ps1" 'W:\Windows\Setup\Scripts'
} catch {
    Write-Host "muster: $_"
    Send-Quietly $failed @{ msg = "$_" }
    Read-Host 'muster: nothing more is done; Enter restarts the machine'
    exit 1
}
Send-UntilHeard $done | Out-Null
